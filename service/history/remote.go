package history

import (
	"fmt"

	"github.com/perdure/perdure/machine/workflow"
)

// performRemote carries out an effect on another execution.
func (s *Service) performRemote(_ target, e workflow.Effect) error {
	return fmt.Errorf("unknown effect %T", e)
}
