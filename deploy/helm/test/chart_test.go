package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const chartDir = "../perdure"

// objects are what a release consists of, by "Kind/name".
type objects map[string]any

var kinds = map[string]func() any{
	"Deployment":          func() any { return &appsv1.Deployment{} },
	"Service":             func() any { return &corev1.Service{} },
	"ConfigMap":           func() any { return &corev1.ConfigMap{} },
	"ServiceAccount":      func() any { return &corev1.ServiceAccount{} },
	"PodDisruptionBudget": func() any { return &policyv1.PodDisruptionBudget{} },
	"NetworkPolicy":       func() any { return &networkingv1.NetworkPolicy{} },
}

const minimal = "postgres: {existingSecret: perdure-postgres}\n"

// render is what "helm template r CHART -f values" does; the second result is NOTES.txt.
func render(t *testing.T, values string) (map[string]string, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	require.NoError(t, err)
	parsed, err := chartutil.ReadValues([]byte(values))
	require.NoError(t, err)
	all, err := chartutil.ToRenderValues(chart, parsed, chartutil.ReleaseOptions{Name: "r", Namespace: "prod", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

// release decodes what is rendered, strictly: a field that the API does not have is an error.
func release(t *testing.T, values string) objects {
	t.Helper()
	files, err := render(t, values)
	require.NoError(t, err)
	found := objects{}
	for file, content := range files {
		if filepath.Ext(file) != ".yaml" {
			continue
		}
		for _, document := range strings.Split("\n"+content, "\n---") {
			var head struct {
				Kind     string
				Metadata struct{ Name string }
			}
			require.NoError(t, yaml.Unmarshal([]byte(document), &head), "%s:\n%s", file, document)
			if head.Kind == "" {
				continue
			}
			require.Contains(t, kinds, head.Kind, file)
			object := kinds[head.Kind]()
			require.NoError(t, yaml.UnmarshalStrict([]byte(document), object), "%s:\n%s", file, document)
			name := head.Kind + "/" + head.Metadata.Name
			require.NotContains(t, found, name)
			found[name] = object
		}
	}
	return found
}

func (o objects) deployment(t *testing.T, name string) *appsv1.Deployment {
	t.Helper()
	require.Contains(t, o, "Deployment/"+name)
	return o["Deployment/"+name].(*appsv1.Deployment)
}

var variants = map[string]string{
	"minimal":    minimal,
	"all-in-one": minimal + "mode: all-in-one\n",
	"everything": minimal + `
image: {repository: registry.example.com/perdure, tag: "1.2.3", pullPolicy: Always}
imagePullSecrets: [{name: registry}]
config: {logLevel: debug, logFormat: text, namespaces: [orders, billing]}
limits: {rps: 50000, namespaceRps: 1000.5, namespaceVisibilityRps: 20, namespaceDeploymentReadRps: 1, namespaceChangeRps: 0.5, burstRatio: 3, inFlight: 500,
  inFlightBytes: 1073741824, waiting: 0, namespaceWaiting: 10}
tracing: {endpoint: "http://collector:4317", sampleRatio: 0.01}
tls: {existingSecret: perdure-tls, clientCA: true}
internalTLS: {existingSecret: perdure-internal, serverName: perdure.internal}
ui: {enabled: true}
service: {type: LoadBalancer, annotations: {a: b}}
serviceAccount: {create: true, name: special, annotations: {role: arn}}
podLabels: {team: orders}
podAnnotations: {note: "1"}
nodeSelector: {disk: ssd}
tolerations: [{key: k, operator: Exists}]
affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
frontend: {replicas: 3, resources: {requests: {cpu: 1}}}
`,
}

func TestLint(t *testing.T) {
	for name, values := range variants {
		parsed, err := chartutil.ReadValues([]byte(values))
		require.NoError(t, err)
		for _, m := range lint.All(chartDir, parsed, "prod", true).Messages {
			require.Less(t, m.Severity, support.WarningSev, "%s: %s", name, m)
		}
	}
}

func TestObjects(t *testing.T) {
	keys := func(o objects) (names []string) {
		for name := range o {
			names = append(names, name)
		}
		return names
	}
	shared := []string{"ConfigMap/r-perdure", "Service/r-perdure", "ServiceAccount/r-perdure"}
	perWorkload := func(components ...string) []string {
		names := shared
		for _, c := range components {
			names = append(names, "Deployment/r-perdure-"+c, "PodDisruptionBudget/r-perdure-"+c, "NetworkPolicy/r-perdure-"+c)
		}
		return names
	}
	require.ElementsMatch(t, perWorkload("frontend", "history", "matching"), keys(release(t, minimal)))
	require.ElementsMatch(t, perWorkload("server"), keys(release(t, variants["all-in-one"])))
}

// Every pod keeps to the restricted security standard, and knows of no API of Kubernetes.
func TestSecurity(t *testing.T) {
	for name, values := range variants {
		for object, o := range release(t, values) {
			d, ok := o.(*appsv1.Deployment)
			if !ok {
				continue
			}
			at := name + ": " + object
			pod := d.Spec.Template.Spec
			require.False(t, *pod.AutomountServiceAccountToken, at)
			require.True(t, *pod.SecurityContext.RunAsNonRoot, at)
			require.NotZero(t, *pod.SecurityContext.RunAsUser, at)
			require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type, at)
			for _, c := range pod.Containers {
				require.False(t, *c.SecurityContext.AllowPrivilegeEscalation, at)
				require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, at)
				require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop, at)
				require.NotEmpty(t, c.Resources.Requests, at)
				require.Equal(t, "/healthz/live", c.LivenessProbe.HTTPGet.Path, at)
				require.Equal(t, "/healthz/ready", c.ReadinessProbe.HTTPGet.Path, at)
			}
			require.Equal(t, d.Spec.Selector.MatchLabels, subset(d.Spec.Template.Labels, d.Spec.Selector.MatchLabels), at)
		}
	}
}

func subset(labels, of map[string]string) map[string]string {
	found := map[string]string{}
	for k := range of {
		if v, ok := labels[k]; ok {
			found[k] = v
		}
	}
	return found
}

// The URL of the database is nowhere but in the Secret; what selects pods finds them.
func TestWiring(t *testing.T) {
	o := release(t, variants["everything"])
	for _, component := range []string{"frontend", "history", "matching"} {
		d := o.deployment(t, "r-perdure-"+component)
		c := d.Spec.Template.Spec.Containers[0]
		require.Equal(t, "registry.example.com/perdure:1.2.3", c.Image)
		require.Equal(t, []string{"/usr/local/bin/" + component}, c.Command)
		require.Equal(t, "perdure-postgres", c.Env[0].ValueFrom.SecretKeyRef.Name)
		require.Equal(t, "url", c.Env[0].ValueFrom.SecretKeyRef.Key)
		require.Equal(t, "special", d.Spec.Template.Spec.ServiceAccountName)
		require.Equal(t, "orders", d.Spec.Template.Labels["team"])
	}
	service := o["Service/r-perdure"].(*corev1.Service)
	frontend := o.deployment(t, "r-perdure-frontend")
	require.Equal(t, service.Spec.Selector, subset(frontend.Spec.Template.Labels, service.Spec.Selector))
	require.Len(t, service.Spec.Ports, 2)
	ports := map[string]bool{}
	for _, p := range frontend.Spec.Template.Spec.Containers[0].Ports {
		ports[p.Name] = true
	}
	for _, p := range service.Spec.Ports {
		require.True(t, ports[p.TargetPort.String()], "the pods have no port %s", p.TargetPort.String())
	}
	config := o["ConfigMap/r-perdure"].(*corev1.ConfigMap).Data
	require.Equal(t, "orders,billing", config["PERDURE_NAMESPACE"])
	require.Equal(t, "/etc/perdure/tls/ca.crt", config["PERDURE_TLS_CLIENT_CA"])
	require.Equal(t, "perdure.internal", config["PERDURE_INTERNAL_TLS_SERVER_NAME"])
	require.EqualValues(t, 3, *frontend.Spec.Replicas)
}

// Every setting that the chart makes is one that the binaries have.
func TestSettingsExist(t *testing.T) {
	help := map[string]string{}
	for component, args := range map[string][]string{
		"frontend": {"run", "./cmd/frontend", "--help"}, "history": {"run", "./cmd/history", "--help"},
		"matching": {"run", "./cmd/matching", "--help"}, "server": {"run", "./cmd/perdure", "server", "start", "--help"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir = "../../.."
		cmd.Env = append(os.Environ(), "GOWORK=off")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		help[component] = string(out)
	}
	flag := func(variable string) string {
		return "--" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(variable, "PERDURE_")), "_", "-") + " "
	}
	for _, values := range []string{variants["everything"], variants["everything"] + "mode: all-in-one\n"} {
		o := release(t, values)
		public := "frontend"
		if strings.Contains(values, "all-in-one") {
			public = "server"
		}
		for variable := range o["ConfigMap/r-perdure"].(*corev1.ConfigMap).Data {
			if strings.HasPrefix(variable, "OTEL_") { // OpenTelemetry's own
				continue
			}
			require.Contains(t, help[public], flag(variable))
		}
		for component, text := range help {
			d, ok := o["Deployment/r-perdure-"+component].(*appsv1.Deployment)
			if !ok {
				continue
			}
			for _, e := range d.Spec.Template.Spec.Containers[0].Env {
				require.Contains(t, text, flag(e.Name), component)
			}
		}
	}
}

// Limits are written as the flags read them.
func TestLimits(t *testing.T) {
	data := release(t, variants["everything"])["ConfigMap/r-perdure"].(*corev1.ConfigMap).Data
	for variable, want := range map[string]string{
		"PERDURE_LIMIT_RPS": "50000", "PERDURE_LIMIT_NAMESPACE_RPS": "1000.5", "PERDURE_LIMIT_NAMESPACE_VISIBILITY_RPS": "20",
		"PERDURE_LIMIT_NAMESPACE_CHANGE_RPS": "0.5", "PERDURE_LIMIT_IN_FLIGHT_BYTES": "1073741824", "PERDURE_LIMIT_WAITING": "0",
		"PERDURE_OTLP_ENDPOINT": "http://collector:4317", "OTEL_TRACES_SAMPLER_ARG": "0.01",
	} {
		require.Equal(t, want, data[variable], variable)
	}
}

// What is misspelt or cannot work is refused before it reaches a cluster.
func TestRefusals(t *testing.T) {
	for values, want := range map[string]string{
		"":                                   "postgres.existingSecret is missing",
		minimal + "modes: services":          "modes",
		minimal + "mode: both":               "mode",
		minimal + "image: {tag: 3}":          "tag",
		minimal + "frontend: {x: 1}":         "x",
		minimal + "config: {logLevel: loud}": "logLevel",
		minimal + "history: {replicas: -1, resources: {}}": "replicas",
		minimal + "terminationGracePeriodSeconds: 5":       "terminationGracePeriodSeconds",
		minimal + "limits: {rpm: 5}":                       "rpm",
		minimal + "limits: {inFlight: 0.5}":                "inFlight",
		minimal + "tracing: {endpoint: 'collector:4317'}":  "endpoint",
		"postgres: {existingSecret: 'postgres://u:p@h/d'}": "existingSecret",
	} {
		_, err := render(t, values)
		require.ErrorContains(t, err, want, values)
	}
}

func TestNotes(t *testing.T) {
	files, err := render(t, minimal)
	require.NoError(t, err)
	notes := files["perdure/templates/NOTES.txt"]
	require.Contains(t, notes, "r-perdure.prod.svc:7233")
	require.Contains(t, notes, "no access control")
	files, err = render(t, variants["everything"])
	require.NoError(t, err)
	require.NotContains(t, files["perdure/templates/NOTES.txt"], "no access control")
	require.Contains(t, files["perdure/templates/NOTES.txt"], fmt.Sprintf("port-forward svc/%s 8233", "r-perdure"))
}
