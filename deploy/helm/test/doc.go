// Package test renders the chart as helm would and holds what comes out against the types of the Kubernetes API. It is a module of
// its own: the server needs none of what it imports.
package test
