/**
 * What every host of the web platform has, Node and browsers alike, as far as it is used here: the compiler knows none of
 * it, so that nothing of one host slips in.
 */

interface Platform {
  readonly crypto?: { readonly getRandomValues: (bytes: Bytes) => Bytes; readonly subtle?: SubtleCrypto }
  readonly TextEncoder: new () => { readonly encode: (text: string) => Bytes }
  readonly TextDecoder: new (
    label: "utf-8",
    options: { readonly fatal: true; readonly ignoreBOM: true },
  ) => { readonly decode: (bytes: Uint8Array) => string }
  readonly Blob: new (
    parts: ReadonlyArray<Uint8Array>,
  ) => { readonly stream: () => { readonly pipeThrough: (through: object) => unknown } }
  readonly btoa: (binary: string) => string
  readonly atob: (text: string) => string
  readonly CompressionStream: new (format: "deflate") => object
  readonly DecompressionStream: new (format: "deflate") => object
}

export type Bytes = Uint8Array<ArrayBuffer>

interface Aes {
  readonly name: "AES-GCM"
  readonly iv: Uint8Array
  readonly additionalData: Uint8Array
}

/** A key that cannot be read out again. */
export interface CryptoKey {
  readonly algorithm: object
}

interface SubtleCrypto {
  readonly importKey: (
    format: "raw",
    key: Uint8Array,
    algorithm: "AES-GCM",
    extractable: false,
    usages: ReadonlyArray<"encrypt" | "decrypt">,
  ) => Promise<CryptoKey>
  readonly encrypt: (algorithm: Aes, key: CryptoKey, data: Uint8Array) => Promise<ArrayBuffer>
  readonly decrypt: (algorithm: Aes, key: CryptoKey, data: Uint8Array) => Promise<ArrayBuffer>
}

export const platform = globalThis as unknown as Platform

const encoder = new platform.TextEncoder()
const decoder = new platform.TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

export const bytesOf = (text: string): Bytes => encoder.encode(text)

/** Throws when the bytes are no UTF-8. */
export const textOf = (bytes: Uint8Array): string => decoder.decode(bytes)
