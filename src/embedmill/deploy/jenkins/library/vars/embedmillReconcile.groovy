/** Whether every shard has a commit record; the store says so, and not what branches came to. */
boolean call(Map settings, String run) {
    return embedmillControl(settings, [RUN: run]) {
        int code = sh(returnStatus: true, script: 'embedmill jenkins reconcile "$MILL_SPEC" --run "$MILL_RUN"')
        if (code != 0 && code != 75) {
            error('reconcile ended with exit code ' + code)
        }
        return code == 0
    }
}
