/**
 * The head of a request as it came over the wire, as far as that can be known.
 */
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import type { RequestHead } from "../../PushAuthenticator.ts"

/** Those that decide whether a request is let in, or how its body is read: no sender has a reason to send one twice. */
const decisive = [
  "authorization",
  "content-digest",
  "content-encoding",
  "content-length",
  "content-type",
  "host",
  "x-outlive-attempt",
  "x-outlive-id",
  "x-outlive-signature",
  "x-outlive-timestamp",
]

/** Whether a header that decides came twice: a proxy in between may have looked at the other one. */
export const isDuplicated = (request: HttpServerRequest.HttpServerRequest): boolean => {
  const { source } = request
  if (!("rawHeaders" in source) || !Array.isArray(source.rawHeaders)) return false
  const seen = new Set<string>()
  for (let index = 0; index < source.rawHeaders.length; index += 2) {
    const name = String(source.rawHeaders[index]).toLowerCase()
    if (!decisive.includes(name)) continue
    if (seen.has(name)) return true
    seen.add(name)
  }
  return false
}

export const headOf = (request: HttpServerRequest.HttpServerRequest): RequestHead => ({
  method: request.method,
  path: pathOf(request),
  header: (name) => request.headers[name],
})

/**
 * The path with its query, not as a router may have shortened it, and without trust in the `Host` header: with that in
 * it, a path could be made to look like another one.
 */
const pathOf = ({ source, url }: HttpServerRequest.HttpServerRequest): string => {
  const target = "url" in source && typeof source.url === "string" ? source.url : url
  if (target.startsWith("/")) return target
  const absolute = URL.parse(target)
  return absolute === null ? "/" : absolute.pathname + absolute.search
}
