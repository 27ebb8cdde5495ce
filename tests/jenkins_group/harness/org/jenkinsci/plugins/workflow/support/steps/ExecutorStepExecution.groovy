package org.jenkinsci.plugins.workflow.support.steps

class ExecutorStepExecution {

    static class RemovedNodeCause implements Serializable { }

    static class RemovedNodeTimeoutCause implements Serializable { }

}
