package workflow

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The machine is pure: it can do nothing but compute. What it may import, and what of package time it may use, is listed here.
func TestPurity(t *testing.T) {
	allowed := []string{"go.temporal.io/api/", "google.golang.org/protobuf/", "github.com/perdure/perdure/api/", "github.com/robfig/cron/v3"}
	standard := []string{
		"cmp", "crypto/sha256", "encoding/binary", "encoding/json", "errors", "fmt", "iter", "maps", "math", "regexp", "slices", "strconv", "strings",
		"time", "unicode", "unicode/utf8",
	}
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "NewTimer", "NewTicker", "Tick", "Local"}

	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			isAPI := slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
			require.True(t, isAPI || slices.Contains(standard, path), "%s imports %s", name, path)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", name)
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
					t.Errorf("%s uses time.%s", name, n.Sel.Name)
				}
			}
			return true
		})
	}
}
