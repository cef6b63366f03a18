/**
 * As many rows as a parameter says. It is said as an expression: SQLite looks at the value of a parameter that stands by
 * itself here, and prepares the statement anew whenever another one is bound, which costs ten times as much as to run it.
 */
export const limitTo = (parameter = "?"): string => `LIMIT ${parameter} + 0`
