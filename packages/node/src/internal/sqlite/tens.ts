/**
 * Statements about ten records at once: to open a table with all of its indexes, and close them, costs about as much as
 * to change one record.
 */

/** More than these at once gain little. */
export const ten = 10

/** A list for `IN`, or a row of `VALUES`, of so many parameters. */
export const parameters = (count: number): string => `(${Array.from({ length: count }, () => "?").join(", ")})`
