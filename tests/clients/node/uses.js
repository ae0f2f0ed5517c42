// What every client is tried at, and how a script of a client runs: `node CLIENT.js URL`.
// A script has a function for each use, which throws where the outcome is wrong; one line of JSON
// is printed for each.

import { deepStrictEqual } from 'node:assert'

const USES = ['chat', 'stream', 'tool', 'parallel', 'strict', 'structured', 'abort', 'error', 'retry']
export const HELLO = 'Hello there.'
export const SUNNY = 'It is sunny in Rome.'
export const ROME = 'Weather in Rome?'
export const BOTH = 'Weather in Rome and Oslo?'
export const PERSON = 'Who is Ada?'
export const SLOW = 'Count slowly.'
export const busy = (who) => `Are you busy? ${who}`
export const WEATHER = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
}

export const check = deepStrictEqual

export async function rejects(call) {
  try {
    await call()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

export async function run(uses) {
  for (const use of USES) {
    let error = null
    try {
      await uses[use](process.argv[2])
    } catch (caught) {
      error = String(caught?.stack ?? caught)
    }
    console.log(JSON.stringify({ use, error }))
  }
}
