/**
 * The files of a folder, deepest last, in the order of their names, as a stream: a directory is read when its turn comes.
 * Links are not followed, and `node_modules` folders inside are left out.
 */

import { join } from "node:path"
import { Effect, FileSystem, Option, Stream } from "effect"

/** Paths relative to `folder`. With `only`, just these entries of the folder itself, links followed. */
export const walk = (folder: string, only: ReadonlyArray<string>) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const first = only.length === 0 ? [""] : only
      return Stream.paginate(first, ([directory, ...rest]) =>
        directory === undefined
          ? Effect.succeed([[], Option.none()] as const)
          : Effect.map(fs.readDirectoryEntries(join(folder, directory)), (entries) => {
              const sorted = [...entries].sort((a, b) => (a.name < b.name ? -1 : 1))
              const of = (type: FileSystem.File.Type) =>
                sorted.filter((entry) => entry.type === type).map((entry) => join(directory, entry.name))
              const deeper = of("Directory").filter((path) => !path.endsWith("node_modules"))
              return [of("File"), Option.some([...rest, ...deeper])] as const
            }),
      )
    }),
  )
