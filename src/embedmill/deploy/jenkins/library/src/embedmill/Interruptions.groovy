package embedmill

import com.cloudbees.groovy.cps.NonCPS
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException

/** Tells an agent that was lost, or gave no answer in time, from somebody who wants the build to end. */
class Interruptions implements Serializable {

    private static final long serialVersionUID = 1L
    private static final List<String> CAUSES_OF_LOSS = [
        'org.jenkinsci.plugins.workflow.steps.TimeoutStepExecution$ExceededTimeout',
        'org.jenkinsci.plugins.workflow.support.steps.ExecutorStepExecution$RemovedNodeCause',
        'org.jenkinsci.plugins.workflow.support.steps.ExecutorStepExecution$RemovedNodeTimeoutCause',
    ]

    /** Whether all causes are of that kind. In a sandbox, `getCauses` has to be approved. */
    @NonCPS
    static boolean lost(FlowInterruptedException interrupted) {
        List causes = interrupted.getCauses()
        for (Object cause : causes) {
            if (!CAUSES_OF_LOSS.contains(cause.getClass().getName())) {
                return false
            }
        }
        return !causes.isEmpty()
    }

}
