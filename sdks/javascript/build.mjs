// src → dist/esm and dist/cjs, with types for both.
import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
rmSync(join(root, "dist"), { recursive: true, force: true });
for (const [folder, module] of [
  ["esm", "esnext"],
  ["cjs", "commonjs"],
]) {
  const out = join(root, "dist", folder);
  const options = ["-p", root, "--module", module, "--outDir", out];
  const done = spawnSync(process.execPath, [join(typescript, "bin", "tsc"), ...options], { stdio: "inherit" });
  if (done.status !== 0) process.exit(done.status ?? 1);
}
writeFileSync(join(root, "dist", "cjs", "package.json"), '{"type": "commonjs"}\n'); // against the "module" of the root
