/**
 * Making and changing a schema: numbered migrations that only go forward, each applied in a transaction of its own by one
 * of however many processes start at once.
 */
import { arrivalsFunctions } from "./arrivalsSql.ts"
import { claimFunctions } from "./claimSql.ts"
import { deferFunctions } from "./deferSql.ts"
import { endingFunctions } from "./endingSql.ts"
import { enqueueFunction } from "./enqueueSql.ts"
import { followFunctions } from "./followSql.ts"
import { tell } from "./functions.ts"
import { joinTables } from "./joinTables.ts"
import { keysFunctions } from "./keysSql.ts"
import { keyTables } from "./keyTables.ts"
import { limitsFunctions } from "./limitsSql.ts"
import { lookFunctions } from "./lookSql.ts"
import { manageFunctions } from "./manageSql.ts"
import { settleFunctions, settleTypes } from "./settleSql.ts"
import { changedIndexes, tables } from "./tables.ts"
import { takeBackFunction } from "./takeBackSql.ts"
import { turnsFunctions, turnTypes } from "./turnsSql.ts"

export interface Migration {
  /** Counted from 1. */
  readonly version: number
  readonly statements: ReadonlyArray<string>
}

/** Functions of the first version that take or give something else in the second, or are gone. */
const replaced = [
  ...["enqueue", "claim", "start_records", "take_back", "end_record", "settle", "cancel", "redrive", "remove", "purge"],
  ...["configure", "get_records", "runs", "heads"],
]

/** Functions after those that they call. */
const functions = (schema: string): ReadonlyArray<string> => [
  tell(schema),
  ...limitsFunctions(schema),
  ...keysFunctions(schema),
  ...endingFunctions(schema),
  ...followFunctions(schema),
  takeBackFunction(schema),
  ...arrivalsFunctions(schema),
  ...turnsFunctions(schema),
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
    // Its functions were those of that time: the newest version makes its own.
    { version: 1, statements: [...tables(schema), `INSERT INTO ${schema}.migrations (version) VALUES (1)`] },
    {
      version: 2,
      statements: [
        ...replaced.map((name) => `DROP FUNCTION IF EXISTS ${schema}.${name}`),
        ...keyTables(schema),
        ...joinTables(schema),
        ...changedIndexes(schema),
        ...turnTypes(schema),
        ...settleTypes(schema),
        ...functions(schema),
        `INSERT INTO ${schema}.migrations (version) VALUES (2)`,
      ],
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
