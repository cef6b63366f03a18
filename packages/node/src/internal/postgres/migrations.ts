/**
 * Making and changing a schema: numbered migrations that only go forward, each applied in a transaction of its own by one
 * of however many processes start at once.
 */
import { claimFunctions } from "./claimSql.ts"
import { deferFunctions } from "./deferSql.ts"
import { endingFunctions } from "./endingSql.ts"
import { enqueueFunction } from "./enqueueSql.ts"
import { tell } from "./functions.ts"
import { limitsFunctions } from "./limitsSql.ts"
import { lookFunctions } from "./lookSql.ts"
import { manageFunctions } from "./manageSql.ts"
import { runsFunctions } from "./runsSql.ts"
import { settleFunctions } from "./settleSql.ts"
import { tables } from "./tables.ts"

export interface Migration {
  /** Counted from 1. */
  readonly version: number
  readonly statements: ReadonlyArray<string>
}

/** Functions after those that they call. */
const functions = (schema: string): ReadonlyArray<string> => [
  tell(schema),
  ...limitsFunctions(schema),
  ...endingFunctions(schema),
  ...runsFunctions(schema),
  ...claimFunctions(schema),
  enqueueFunction(schema),
  ...settleFunctions(schema),
  ...manageFunctions(schema),
  ...lookFunctions(schema),
  ...deferFunctions(schema),
]

/** The name as it stands in SQL. */
export const quoted = (schema: string): string => `"${schema}"`

export const migrations = (name: string): ReadonlyArray<Migration> => {
  const schema = quoted(name)
  return [
    {
      version: 1,
      statements: [...tables(schema), ...functions(schema), `INSERT INTO ${schema}.migrations (version) VALUES (1)`],
    },
  ]
}

/** What comes before all migrations. */
export const preparation = (name: string): ReadonlyArray<string> => [
  `CREATE SCHEMA IF NOT EXISTS ${quoted(name)}`,
  `CREATE TABLE IF NOT EXISTS ${quoted(name)}.migrations (version integer PRIMARY KEY)`,
]

/** The version of a schema whose migrations have all been applied. */
export const latest = migrations("outlive").length
