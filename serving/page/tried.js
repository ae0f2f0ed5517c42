// Do what somebody asked for; what could not be done is told, and null comes back.
import { toast } from "./dialog.js";
import { strings } from "./strings.js";

export async function tried(work) {
  try {
    return await work();
  } catch (error) {
    if (!("status" in error)) throw error;
    toast(error.status === 403 ? strings.states.forbiddenText : strings.memory.notDone(error.message));
    return null;
  }
}
