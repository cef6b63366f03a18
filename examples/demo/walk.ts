/**
 * The files of a folder, deepest last, in the order of their names, as a stream: a directory is read when its turn comes.
 * Links are not followed; folders called `node_modules` or `.outlive` inside are left out.
 */

import { join } from "node:path"
import { Effect, FileSystem, Option, Stream } from "effect"

const leftOut: ReadonlySet<string> = new Set(["node_modules", ".outlive"])

/**
 * Paths relative to `folder`. With `only`, just these entries of the folder itself, links followed. A folder inside that
 * cannot be read is told to `closed` and passed over.
 */
export const walk = (
  folder: string,
  options: { readonly only: ReadonlyArray<string>; readonly closed: (path: string) => void },
) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const read = (path: string) =>
        path === ""
          ? fs.readDirectoryEntries(folder)
          : Effect.catch(fs.readDirectoryEntries(join(folder, path)), () =>
              Effect.sync(() => {
                options.closed(path)
                return []
              }),
            )
      return Stream.paginate(options.only.length === 0 ? [""] : options.only, ([directory, ...rest]) =>
        directory === undefined
          ? Effect.succeed([[], Option.none()] as const)
          : Effect.map(read(directory), (entries) => {
              const sorted = [...entries].sort((a, b) => (a.name < b.name ? -1 : 1))
              const of = (type: FileSystem.File.Type) => sorted.filter((entry) => entry.type === type)
              const files = of("File").map(({ name }) => join(directory, name))
              const deeper = of("Directory").filter(({ name }) => !leftOut.has(name))
              return [files, Option.some([...rest, ...deeper.map(({ name }) => join(directory, name))])] as const
            }),
      )
    }),
  )
