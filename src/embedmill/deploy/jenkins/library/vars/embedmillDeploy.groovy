/** Tells the team's own job which release is live, and compares the server afterwards, where they are named. */
void call(Map settings, String run) {
    if (settings.deployJob) {
        build(job: settings.deployJob, parameters: [string(name: 'RELEASE', value: run)], wait: true)
    } else {
        echo('no job to deploy with is named: servers that follow the store take the release by themselves')
    }
    if (settings.verifyUrl) {
        embedmillControl(settings, [RUN: run]) {
            sh 'rm -f verify.xml'
            int code = 0
            withCredentials(key(settings)) {
                code = sh(
                    returnStatus: true,
                    script: '''embedmill verify "$MILL_SPEC" --server "$MILL_VERIFY" --junit verify.xml \\
                        ${MILL_KEY_FILE:+--key-file "$MILL_KEY_FILE"}'''
                )
            }
            junit(testResults: 'verify.xml', allowEmptyResults: true)
            if (code == 75) {
                error('the server gives no answer, or wants to be asked less often: verify ended with exit code 75')
            }
            if (code == 3) {
                error('the server is not the release: verify ended with exit code 3')
            }
            if (code != 0) {
                error('the server was not compared with the release: verify ended with exit code ' + code)
            }
        }
    }
}

/** The file with the key that the server wants to see, where one is named. */
List key(Map settings) {
    return settings.verifyKey ? [file(variable: 'MILL_KEY_FILE', credentialsId: settings.verifyKey)] : []
}
