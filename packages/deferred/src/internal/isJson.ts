/**
 * Whether the values of a schema are JSON as they are: then there is nothing to encode in one that was made by the schema.
 */
import type * as SchemaAST from "effect/SchemaAST"

/** Of a schema's JSON codec. Where it is not sure it is `false`, which costs time and nothing else. */
export const isJson = (ast: SchemaAST.AST): boolean => {
  if (ast.encoding !== undefined || ("encodingChecks" in ast && ast.encodingChecks !== undefined)) return false
  switch (ast._tag) {
    case "String":
    case "Boolean":
    case "Null":
    // One that may be infinite, or none, has an encoding.
    case "Number":
    case "Literal":
      return true
    case "Objects":
      return (
        ast.propertySignatures.every(({ name, type }) => typeof name === "string" && isJson(type)) &&
        ast.indexSignatures.every(
          ({ parameter, type }) => parameter._tag === "String" && isJson(parameter) && isJson(type),
        )
      )
    case "Arrays":
      return ast.elements.every(isJson) && ast.rest.every(isJson)
    case "Union":
      return ast.types.every(isJson)
    default:
      return false
  }
}
