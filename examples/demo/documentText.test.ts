import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Measure } from "./documentText.ts"

const encode = (text: string) => new TextEncoder().encode(text)
/** Measures bytes in chunks of a size. */
const measure = (bytes: Uint8Array, size = Number.POSITIVE_INFINITY) => {
  const measure = new Measure()
  for (let at = 0; at < bytes.length; at += size) if (!measure.write(bytes.slice(at, at + size))) return undefined
  return measure.end()
}

describe("Measure", () => {
  it.each([
    ["", 0, 0],
    ["one", 1, 1],
    ["one\n", 1, 1],
    ["one\ntwo", 2, 2],
    ["one\r\ntwo\r\n", 2, 2],
    ["\n\n\n", 3, 0],
    ["  a\tb\u00a0c\u2003d  ", 1, 4],
    ["\ufeffmark", 1, 1],
  ])("counts the lines and words of %j", (text, lines, words) => {
    assert.deepInclude(measure(encode(text)), { lines, words, bytes: encode(text).length })
  })

  it("knows the SHA-256 of nothing and of abc", () => {
    const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert.strictEqual(measure(encode(""))?.sha256, empty)
    assert.strictEqual(measure(encode("abc"))?.sha256, abc)
  })

  it("takes runs of three or more letters of any script for terms, in lower case, less the stop list", () => {
    const text = "Straße straße ÄÖÜ x1y2 ab the The слово слово слово 漢字仮 foo_bar foo-bar"
    assert.deepStrictEqual(measure(encode(text))?.terms, [
      { term: "слово", count: 3 },
      { term: "bar", count: 2 },
      { term: "foo", count: 2 },
      { term: "straße", count: 2 },
      { term: "äöü", count: 1 },
      { term: "漢字仮", count: 1 },
    ])
  })

  it("gives the ten most frequent terms, ties by the alphabet", () => {
    const words = Array.from({ length: 12 }, (_, n) => `term${String.fromCharCode(108 - n)}`)
    const terms = measure(encode([...words, "termc"].join(" ")))?.terms.map(({ term }) => term)
    assert.deepStrictEqual(
      terms,
      ["termc", ..."abdefghij"].map((letter) => (letter.length > 1 ? letter : `term${letter}`)),
    )
  })

  it.each([
    ["a wrong byte", [0x61, 0xff, 0x62]],
    ["a character cut off at the end", [0x61, 0xe2, 0x82]],
    ["an overlong form", [0xc0, 0x80]],
    ["half of a surrogate pair", [0xed, 0xa0, 0x80]],
  ])("does not take %s for text, however it is cut", (_, bytes) => {
    for (const size of [1, 2, 100]) assert.isUndefined(measure(Uint8Array.from(bytes), size))
  })

  it.effect.prop(
    "gives the same figures however the text is cut into chunks",
    { text: Schema.String, size: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 7 })) },
    ({ size, text }) =>
      Effect.sync(() => {
        const bytes = encode(`${text} wörd\n𝒳𝒴𝒵 ${text}`)
        assert.deepStrictEqual(measure(bytes, size), measure(bytes))
      }),
  )
})
