package org.jenkinsci.plugins.workflow.support.steps

class AgentOfflineException extends IOException {

    AgentOfflineException(String message) {
        super(message)
    }

}
