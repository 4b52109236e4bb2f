package postgres

import (
	"testing"

	"github.com/perdure/perdure/persistence"
	"github.com/perdure/perdure/persistence/persistencetest"
)

func TestConformance(t *testing.T) {
	persistencetest.Run(t, func(t *testing.T) persistencetest.Opener {
		url := database(t)
		return func(t *testing.T) persistence.Store {
			s := open(t, Options{URL: url})
			return s
		}
	})
}
