/**
 * What the house looks like: the packages, the direction of their dependencies, and what one found wrong with a tree.
 */

/**
 * @typedef {object} Package
 * @property {string} name folder under `packages`, and the package's name behind `@outlive/`
 * @property {ReadonlyArray<string>} uses the packages it may import
 * @property {"any" | "node"} host where it runs: code for any host has no Node imports and only stable modules of Effect
 */

/**
 * A refusal: where, which rule, and a sentence that says what is wrong and what to do.
 *
 * @typedef {object} Problem
 * @property {string} file path from the root of the repository
 * @property {number} line
 * @property {string} rule
 * @property {string} message
 */

/** @type {ReadonlyArray<Package>} */
export const packages = [
  { name: "core", uses: [], host: "any" },
  { name: "deferred", uses: ["core"], host: "any" },
  { name: "node", uses: ["core", "deferred"], host: "node" },
]

export const direction = "core <- deferred <- node"
export const scope = "@outlive/"
export const maxLines = 400

/** Folders beside `packages` whose programs are users of the packages. */
export const programs = ["examples", "bench", "scripts"]
