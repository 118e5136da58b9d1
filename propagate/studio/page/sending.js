/**
 * Sending a video of this computer to the program.
 * @import {Project} from "./types.js"
 */

import { api } from "./api.js";
import { progress } from "./notices.js";

/**
 * Send a video, saying how far it is, and open it.
 * @param {File} file
 * @param {(project: Project) => Promise<void>} open
 */
export async function sendVideo(file, open) {
  const line = progress(`Sending ${file.name} …`);
  try {
    const { file: id } = await api.upload(file, (part) => line.say(`Sending ${file.name}: ${Math.floor(part * 100)} %`));
    line.say(`Opening ${file.name} …`);
    await open(await api.open(id));
  } finally {
    line.end();
  }
}
