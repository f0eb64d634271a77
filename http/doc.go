// Package http serves everything that machines, agents and people fetch.
//
// It has three doors. The boot listener speaks plain HTTP to firmware: boot
// scripts, kernel, ramdisk and image chunks, nothing else. The TLS listener
// serves agents (mutual TLS), the operators' API and the console. The Unix
// socket serves the same API to the administrator of this machine.
//
// Handlers are functions of a typed input; which of them a caller may reach
// is decided in one place, from the one table in routes.go, before any of
// them runs. A route that the table does not name is not there.
package http
