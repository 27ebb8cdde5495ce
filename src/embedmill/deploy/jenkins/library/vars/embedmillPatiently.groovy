import embedmill.Interruptions
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException

/**
 * Runs a branch that others can do without: whether it came to its end. A lost agent, one that never answers
 * and a failed step are said; an abort of the build goes through.
 */
boolean call(String what, Closure body) {
    String why = ''
    try {
        body()
    } catch (FlowInterruptedException interrupted) {
        if (!Interruptions.lost(interrupted)) {
            throw interrupted
        }
        why = 'no answer in time, or its agent was lost'
    // Agents are lost in many ways, of many classes; `reconcile` tells whether anything is left.
    /* groovylint-disable-next-line CatchException */
    } catch (Exception lost) {
        why = 'its agent was lost, or a step failed: ' + lost.message
    }
    if (why) {
        echo(what + ': ' + why)
    }
    return !why
}
