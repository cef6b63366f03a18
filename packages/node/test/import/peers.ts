/**
 * The queues that are imported from, where `bench/peers` is installed: what they are expected to write, they write themselves.
 * The other tests make what they write by hand.
 */
import { existsSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { fileURLToPath, pathToFileURL } from "node:url"

const manifest = fileURLToPath(new URL("../../../../bench/peers/package.json", import.meta.url))

/** Whether this one is installed, which is said aloud when it is not. */
export const isAbsent = (name: string): boolean => {
  const absent = !existsSync(new URL(`node_modules/${name}/package.json`, pathToFileURL(manifest)))
  if (absent) console.warn(`\nTHE TEST AGAINST THE REAL ${name} IS LEFT OUT: \`pnpm install\` in bench/peers\n`)
  return absent
}

export const versionOf = (name: string): string =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, pathToFileURL(manifest)), "utf8")).version

/** The module of a peer. The caller says its shape: no types of it are installed here. */
export const load = async <Shape>(name: string): Promise<Shape> => {
  const module = await import(pathToFileURL(createRequire(manifest).resolve(name)).href)
  return module as Shape
}
