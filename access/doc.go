// Package access decides who may do what, and keeps the secrets that this
// needs.
//
// [Accounts] are people: they sign in with a password and get a token.
// [Authority] is the certificates of the server and of the nodes: which stage
// a node belongs to is known from the authority that issued its certificate,
// never from what the certificate says. A [Sealer] seals what has to be kept
// and must not be read, such as the passwords of BMCs.
package access
