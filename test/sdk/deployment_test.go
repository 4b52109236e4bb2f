package sdk

import (
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// deployment runs a versioned worker per build; the workflow "main" returns the build that it runs on. The first is the current one.
func (e *env) deployment(behavior workflow.VersioningBehavior, builds ...string) {
	e.Helper()
	for _, build := range builds {
		e.workWith(e.c, e.queue, worker.Options{DeploymentOptions: worker.DeploymentOptions{
			UseVersioning: true, Version: e.version(build), DefaultVersioningBehavior: behavior,
		}}, code{
			"main": func(ctx workflow.Context) (string, error) { return build, nil },
			"wait": waitEnd,
		})
	}
	for _, build := range builds[1:] {
		e.awaitVersion(build)
	}
	e.setCurrent(builds[0])
}

// awaitVersion waits until a worker's version is known.
func (e *env) awaitVersion(build string) {
	e.Helper()
	e.eventually("the version is known", func() bool {
		_, err := e.c.WorkerDeploymentClient().GetHandle(e.queue).DescribeVersion(e.ctx, client.WorkerDeploymentDescribeVersionOptions{BuildID: build})
		requireImplemented(e, err)
		return err == nil
	})
}

// setCurrent routes new work to a version, once its worker is known.
func (e *env) setCurrent(build string) {
	e.Helper()
	e.eventually("the version can be made current", func() bool {
		_, err := e.c.WorkerDeploymentClient().GetHandle(e.queue).SetCurrentVersion(e.ctx, client.WorkerDeploymentSetCurrentVersionOptions{BuildID: build})
		requireImplemented(e, err)
		return err == nil
	})
}

func (e *env) version(build string) worker.WorkerDeploymentVersion {
	return worker.WorkerDeploymentVersion{DeploymentName: e.queue, BuildID: build}
}

// requireImplemented ends a test at once if what it waits for can never come.
func requireImplemented(e *env, err error) {
	e.Helper()
	if _, ok := err.(*serviceerror.Unimplemented); ok {
		require.NoError(e, err)
	}
}
