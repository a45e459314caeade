/** What can be uploaded, and the form it is uploaded in. */

import { HelixFlowError } from "./errors.js";

/** A File, a Blob, bytes, a text; or a stream of bytes, such as that of `fs.createReadStream(path)`. */
export type FileContent = Blob | ArrayBuffer | Uint8Array | string | AsyncIterable<Uint8Array | string>;

export async function toForm(file: FileContent, purpose: string, filename?: string): Promise<FormData> {
  const form = new FormData();
  form.set("purpose", purpose);
  form.set("file", await toBlob(file), filename ?? nameOf(file) ?? "upload.jsonl");
  return form;
}

async function toBlob(file: FileContent): Promise<Blob> {
  if (file instanceof Blob) return file;
  if (typeof file === "string" || file instanceof ArrayBuffer || ArrayBuffer.isView(file)) {
    return new Blob([file as BlobPart]);
  }
  if (typeof file?.[Symbol.asyncIterator] !== "function") {
    throw new HelixFlowError("A file is a File, Blob, ArrayBuffer, Uint8Array, text or stream of bytes.");
  }
  // Read whole, since a form that is sent again needs it again.
  const parts: BlobPart[] = [];
  for await (const part of file) parts.push(part as BlobPart);
  return new Blob(parts);
}

/** A File's name, or that of the path which Node's streams know. */
function nameOf(file: unknown): string | undefined {
  const { name, path } = file as { name?: unknown; path?: unknown };
  const found = typeof name === "string" ? name : typeof path === "string" ? path : "";
  return found.split(/[\\/]/).pop() || undefined;
}
