import embedmill.Lines

/**
 * One worker loop of a run that is driven from elsewhere: `engine: jenkins` triggers a build of this for each loop.
 *
 * The build's description says how the loop stands, and at last how it ended; that is what the engine reads. There
 * is no retry: whoever drives the run sees that a loop is lost, and triggers another build, maybe for another agent.
 */
void call() {
    Map settings = Lines.settings(libraryResource('embedmill/worker.txt'))
    declare()
    if (!params.RUN) {
        echo('nothing is asked for: the parameters of this job are known from now on')
        return
    }
    String run = Lines.run(params.RUN, settings.stores)
    String worker = Lines.oneWord(params.WORKER)
    String label = Lines.oneWord(params.LABEL)
    String device = Lines.checked(params.DEVICE, '[A-Za-z0-9][A-Za-z0-9._:-]{0,63}')
    String threads = Lines.checked(params.THREADS, '[1-9][0-9]{0,2}')
    List asked = ['MILL_RUN=' + run, 'MILL_WORKER=' + worker, 'MILL_DEVICE=' + device, 'MILL_THREADS=' + threads]
    int hours = Integer.parseInt(settings.embedHours)
    int silent = Integer.parseInt(settings.silentMinutes)
    currentBuild.displayName = worker
    timeout(time: hours, unit: 'HOURS') {
        node(label) {
            currentBuild.description = 'works on ' + env.NODE_NAME
            timeout(time: silent, unit: 'MINUTES', activity: true) {
                work(settings, asked)
            }
        }
    }
}

/** The parameters, none of which is a secret; Jenkins takes them over with the first build. */
void declare() {
    properties([
        parameters([
            string(name: 'RUN', defaultValue: '', description: 'The URL of the run.'),
            string(name: 'WORKER', defaultValue: '', description: 'The name of the loop.'),
            string(name: 'LABEL', defaultValue: '', description: 'Of agents that may run it.'),
            string(name: 'DEVICE', defaultValue: 'cpu', description: 'Where to compute: cpu, cuda, cuda:1.'),
            string(name: 'THREADS', defaultValue: '1', description: 'Threads a batch.'),
        ]),
    ])
}

void work(Map settings, List asked) {
    withCredentials(embedmillSecrets(settings)) {
        withEnv(asked) {
            sh 'embedmill jenkins work --run "$MILL_RUN" --name "$MILL_WORKER" --device "$MILL_DEVICE" ' +
                '--threads "$MILL_THREADS" --to ended.txt'
        }
    }
    String ended = Lines.howItEnded(readFile(file: 'ended.txt', encoding: 'UTF-8'))
    currentBuild.description = ended
    if (!Lines.isCalm(ended)) {
        error(ended)
    }
}
