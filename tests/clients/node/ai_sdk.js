// Vercel's AI SDK: `@ai-sdk/openai-compatible` on chat completions, and `@ai-sdk/openai` where the
// use is one of the Responses API's too.

import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { Output, generateText, jsonSchema, stepCountIs, streamText, tool as asTool } from 'ai'
import { z } from 'zod'
import { BOTH, HELLO, PERSON, ROME, SLOW, SUNNY, WEATHER, busy, check, rejects, run } from './uses.js'

const Person = z.object({ name: z.string(), age: z.number().int() })
const chatModel = (url, name = 'default') =>
  createOpenAICompatible({
    name: 'burnish',
    baseURL: `${url}/v1`,
    apiKey: 'unused',
    supportsStructuredOutputs: true,
  })(name)
const responsesModel = (url, name = 'default') =>
  createOpenAI({ baseURL: `${url}/v1`, apiKey: 'unused' }).responses(name)
const MODELS = [chatModel, responsesModel]

function weather(cities, more = {}) {
  const execute = async ({ city }) => {
    cities.push(city)
    return 'sunny'
  }
  return { get_weather: asTool({ inputSchema: jsonSchema(WEATHER), execute, ...more }) }
}

async function calls(url, prompt, expected, more) {
  for (const model of MODELS) {
    const cities = []
    const tools = weather(cities, more)
    const { text } = await generateText({ model: model(url), prompt, tools, stopWhen: stepCountIs(3) })
    check([text, cities.sort()], [SUNNY, expected])
  }
}

async function chat(url) {
  for (const model of MODELS) check((await generateText({ model: model(url), prompt: 'Hi' })).text, HELLO)
}

await run({
  chat,
  async stream(url) {
    for (const model of MODELS) {
      let said = ''
      for await (const piece of streamText({ model: model(url), prompt: 'Hi' }).textStream) said += piece
      check(said, HELLO)
    }
  },
  tool: (url) => calls(url, ROME, ['Rome']),
  parallel: (url) => calls(url, BOTH, ['Oslo', 'Rome']),
  strict: (url) => calls(url, ROME, ['Rome'], { strict: true }),
  async structured(url) {
    for (const model of MODELS) {
      const output = Output.object({ schema: Person })
      const answer = await generateText({ model: model(url), prompt: PERSON, output })
      check(answer.output, { name: 'Ada', age: 36 })
    }
  },
  async abort(url) {
    for (const model of MODELS) {
      const stop = new AbortController()
      const { textStream } = streamText({ model: model(url), prompt: SLOW, abortSignal: stop.signal })
      for await (const _ of textStream) break
      stop.abort()
    }
    await chat(url)
  },
  async error(url) {
    for (const model of MODELS) {
      const error = await rejects(() => generateText({ model: model(url, 'other'), prompt: 'Hi' }))
      check(error.statusCode, 404)
    }
  },
  async retry(url) {
    for (const model of MODELS) {
      const prompt = busy(`ai sdk ${model.name}`)
      check((await generateText({ model: model(url), prompt })).text, HELLO)
    }
  },
})
