/** Words too frequent to say anything, in prose and in source code. Shorter than three letters are left out anyway. */
export const stopList: ReadonlySet<string> = new Set(
  `
  about above after again all also and any are because been before being below between both but can cannot could did does
  doing down during each few for from further had has have having her here hers him his how into its itself just more most
  not now off once only other our out over own same she should some such than that the their them then there these they
  this those through too under until very was were what when where which while who why will with you your
  `
    .trim()
    .split(/\s+/),
)
