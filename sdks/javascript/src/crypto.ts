/** WebCrypto, which Node 18 has but keeps from the globals. */

const NODE = "node:crypto"; // not a literal where it's imported, or bundlers for browsers would look for it

let found: Crypto | undefined = globalThis.crypto;

export async function webCrypto(): Promise<Crypto> {
  const node = async (): Promise<{ webcrypto: Crypto }> => import(/* webpackIgnore: true */ /* @vite-ignore */ NODE);
  return (found ??= (await node()).webcrypto);
}

export async function uuid(): Promise<string> {
  const crypto = found ?? (await webCrypto());
  if (crypto.randomUUID) return crypto.randomUUID();
  // A page that isn't served over https has no randomUUID. Only uniqueness is asked for.
  const hex = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0"));
  return hex.join("").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
