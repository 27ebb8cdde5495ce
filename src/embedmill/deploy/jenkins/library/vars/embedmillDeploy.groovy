/** Tells the team's own job which release is live, and compares the server afterwards, where they are named. */
void call(Map settings, String run) {
    if (settings.deployJob) {
        build(job: settings.deployJob, parameters: [string(name: 'RELEASE', value: run)], wait: true)
    } else {
        echo('no job to deploy with is named: servers that follow the store take the release by themselves')
    }
    if (settings.verifyUrl) {
        embedmillControl(settings, [RUN: run]) {
            int code = sh(
                returnStatus: true,
                script: 'embedmill verify "$MILL_SPEC" --server "$MILL_VERIFY" --junit verify.xml'
            )
            junit(testResults: 'verify.xml')
            if (code != 0) {
                error('the server is not the release: verify ended with exit code ' + code)
            }
        }
    }
}
