import embedmill.Lines

/**
 * Runs steps where embedmill is installed, in a checkout, with the store's secrets. All stages may be run
 * again: what is done is found in the store. `more` becomes variables MILL_….
 */
Object call(Map settings, Map more, Closure body) {
    int hours = Integer.parseInt(settings.stageHours)
    return timeout(time: hours, unit: 'HOURS') {
        return retry(count: 3, conditions: [agent(), nonresumable()]) {
            return node(settings.control) {
                checkout scm
                return withCredentials(embedmillSecrets(settings)) {
                    return withEnv(Lines.environment(settings, more)) {
                        return body()
                    }
                }
            }
        }
    }
}
