/** `import { Client } from "helixflow"`, `import HelixFlow from "helixflow"` and `require("helixflow")` all have it. */
export * from "./exports.js";
export * as default from "./exports.js";
