/** Runs the gates; their verdicts are tests of the build, and a page. `accept` has checked words only. */
void call(Map settings, String run, String accept) {
    embedmillControl(settings, [RUN: run, ACCEPT: accept]) {
        int code = sh(
            returnStatus: true,
            script: 'embedmill check "$MILL_SPEC" --run "$MILL_RUN" $MILL_ACCEPT --json > gates.json'
        )
        archiveArtifacts(artifacts: 'gates.json')
        if (code == 0 || code == 3) {
            sh 'embedmill jenkins report "$MILL_SPEC" --run "$MILL_RUN" --to report'
            junit(testResults: 'report/gates.xml')
            embedmillPage()
        }
        if (code != 0) {
            error('the gates ended with exit code ' + code + ': nothing is published')
        }
    }
}
