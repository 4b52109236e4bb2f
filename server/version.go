package server

// Version is this build's version; releases set it with -ldflags.
var Version = "0.1.0-dev"
