// Package web holds the console: its pages, its style sheet and its one
// script, embedded, and the views that the pages show.
//
// Pages are rendered on the server, the live parts of them too: what changes
// comes over an event stream as the same HTML that the page was made of, so
// that there is one place that draws a node, and it escapes what machines say
// about themselves. Without JavaScript everything works; it has to be
// reloaded.
package web
