//go:build tools

// Package engine pins the programs of CGRateS that the lab builds: `go install` of the module itself asks for a list of
// versions that not every module proxy gives out, a module that requires one exact version does not.
package engine

import (
	_ "github.com/cgrates/cgrates/cmd/cgr-engine"
)
