/**
 * Bytes as text (RFC 4648, padded), by the web platform.
 */
import { platform } from "./webPlatform.ts"

/** How many bytes are arguments of one call. */
const slice = 32_768

export const toBase64 = (bytes: Uint8Array): string => {
  const parts: Array<string> = []
  for (let at = 0; at < bytes.length; at += slice) {
    parts.push(String.fromCharCode(...bytes.subarray(at, at + slice)))
  }
  return platform.btoa(parts.join(""))
}

/** `undefined`: it is not how `toBase64` writes any bytes. The platform would also read what is almost so. */
export const fromBase64 = (text: string): Uint8Array | undefined => {
  let binary: string
  try {
    binary = platform.atob(text)
  } catch {
    return undefined
  }
  if (platform.btoa(binary) !== text) return undefined
  const bytes = new Uint8Array(binary.length)
  for (let index = 0; index < binary.length; index++) bytes[index] = binary.charCodeAt(index)
  return bytes
}
