package org.jenkinsci.plugins.workflow.steps

class TimeoutStepExecution {

    static Object cause() {
        return new ExceededTimeout()
    }

    static class ExceededTimeout implements Serializable { }

}
