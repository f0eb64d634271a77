// Package api holds the wire types of provision's HTTP API and a client for
// it. It imports nothing of ours, so that the agent on a node and programs
// of others can use it alone.
//
// Two peers speak it. Operators, the command line and the console use
// /api/v1; errors are problem+json (RFC 9457, [Problem]). Agents on nodes use
// /agent/v1 over mutual TLS: an agent says hello with a one-use ticket, gets
// a certificate, and from then on asks for its next step ([PollRequest]).
package api
