// @anthropic-ai/sdk.

import Anthropic from '@anthropic-ai/sdk'
import { BOTH, HELLO, PERSON, ROME, SLOW, SUNNY, WEATHER, busy, check, rejects, run } from './uses.js'

const TOOL = { name: 'get_weather', input_schema: WEATHER }
const client = (url) => new Anthropic({ baseURL: url, apiKey: 'unused' })
const asked = (text, more) => ({
  model: 'default',
  max_tokens: 500,
  messages: [{ role: 'user', content: text }],
  ...more,
})
const ask = (url, text, more = {}) => client(url).messages.create(asked(text, more))

async function chat(url) {
  check((await ask(url, 'Hi')).content[0].text, HELLO)
}

await run({
  chat,
  async stream(url) {
    const stream = client(url).messages.stream(asked('Hi'))
    check(await stream.finalText(), HELLO)
  },
  async tool(url) {
    const { content, stop_reason } = await ask(url, ROME, { tools: [TOOL] })
    check([stop_reason, content[0].input], ['tool_use', { city: 'Rome' }])
    const messages = [
      { role: 'user', content: ROME },
      { role: 'assistant', content },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: content[0].id, content: 'sunny' }] },
    ]
    check((await ask(url, '', { messages, tools: [TOOL] })).content[0].text, SUNNY)
  },
  async parallel(url) {
    const stream = client(url).messages.stream(asked(BOTH, { tools: [TOOL] }))
    const { content } = await stream.finalMessage()
    check(content.map((call) => call.input.city), ['Rome', 'Oslo'])
  },
  async strict(url) {
    const { content } = await ask(url, ROME, { tools: [{ ...TOOL, strict: true }] })
    check(content[0].input, { city: 'Rome' })
  },
  async structured(url) {
    const schema = {
      type: 'object',
      properties: { name: { type: 'string' }, age: { type: 'integer' } },
      required: ['name', 'age'],
      additionalProperties: false,
    }
    const answer = await ask(url, PERSON, { output_config: { format: { type: 'json_schema', schema } } })
    check(JSON.parse(answer.content[0].text), { name: 'Ada', age: 36 })
  },
  async abort(url) {
    for await (const _ of await ask(url, SLOW, { stream: true })) break
    await chat(url)
  },
  async error(url) {
    const error = await rejects(() => ask(url, 'Hi', { model: 'other' }))
    check(error instanceof Anthropic.NotFoundError, true)
  },
  async retry(url) {
    check((await ask(url, busy('anthropic node'))).content[0].text, HELLO)
  },
})
