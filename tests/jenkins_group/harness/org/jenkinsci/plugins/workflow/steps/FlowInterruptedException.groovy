package org.jenkinsci.plugins.workflow.steps

/** As in workflow-step-api: an interruption, with what caused it. */
class FlowInterruptedException extends InterruptedException {

    private final List causes

    FlowInterruptedException(Object... causes) {
        this.causes = causes as List
    }

    List getCauses() {
        return causes
    }

}
