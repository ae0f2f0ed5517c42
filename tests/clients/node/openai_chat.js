// openai-node, chat completions.

import OpenAI from 'openai'
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import { BOTH, HELLO, PERSON, ROME, SLOW, SUNNY, WEATHER, busy, check, rejects, run } from './uses.js'

const TOOL = { type: 'function', function: { name: 'get_weather', parameters: WEATHER } }
const City = z.object({ city: z.string() })
const Person = z.object({ name: z.string(), age: z.number().int() })
const client = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused' })
const says = (text) => [{ role: 'user', content: text }]
const ask = (url, text, more = {}) =>
  client(url).chat.completions.create({ model: 'default', messages: says(text), ...more })

async function chat(url) {
  check((await ask(url, 'Hi')).choices[0].message.content, HELLO)
}

await run({
  chat,
  async stream(url) {
    let said = ''
    for await (const chunk of await ask(url, 'Hi', { stream: true })) said += chunk.choices[0].delta.content ?? ''
    check(said, HELLO)
  },
  async tool(url) {
    const { message } = (await ask(url, ROME, { tools: [TOOL] })).choices[0]
    check(JSON.parse(message.tool_calls[0].function.arguments), { city: 'Rome' })
    const result = { role: 'tool', tool_call_id: message.tool_calls[0].id, content: 'sunny' }
    const messages = [...says(ROME), message, result]
    check((await ask(url, '', { messages, tools: [TOOL] })).choices[0].message.content, SUNNY)
  },
  async parallel(url) {
    const tools = [zodFunction({ name: 'get_weather', parameters: City })]
    const stream = client(url).chat.completions.stream({ model: 'default', messages: says(BOTH), tools })
    const { message } = (await stream.finalChatCompletion()).choices[0]
    check(message.tool_calls.map((call) => call.function.parsed_arguments.city), ['Rome', 'Oslo'])
  },
  async strict(url) {
    const tools = [zodFunction({ name: 'get_weather', parameters: City })]
    const answer = await client(url).chat.completions.parse({ model: 'default', messages: says(ROME), tools })
    check(answer.choices[0].message.tool_calls[0].function.parsed_arguments, { city: 'Rome' })
  },
  async structured(url) {
    const answer = await client(url).chat.completions.parse({
      model: 'default',
      messages: says(PERSON),
      response_format: zodResponseFormat(Person, 'person'),
    })
    check(answer.choices[0].message.parsed, { name: 'Ada', age: 36 })
  },
  async abort(url) {
    const stream = await ask(url, SLOW, { stream: true })
    for await (const _ of stream) break
    await chat(url)
  },
  async error(url) {
    const error = await rejects(() => ask(url, 'Hi', { model: 'other' }))
    check([error instanceof OpenAI.NotFoundError, error.param], [true, 'model'])
  },
  async retry(url) {
    check((await ask(url, busy('openai node'))).choices[0].message.content, HELLO)
  },
})
