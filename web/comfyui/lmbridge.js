/** The only file that ComfyUI's page imports by itself; the rest is below `lmbridge/`. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { extension } from "./lmbridge/pack.mjs";

app.registerExtension(extension(app, api));
