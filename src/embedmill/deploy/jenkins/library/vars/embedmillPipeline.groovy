import embedmill.Lines

/**
 * A pipeline from its catalog to a published release.
 *
 * Probe → Plan → Embed → Reconcile, again while shards are left → Index → Gates → Integration test → Publish →
 * Deploy → Report. Python decides everything; what it says are lines of words.
 */
void call(String name) {
    String file = 'embedmill/pipelines/' + Lines.checked(name, '[a-z0-9][a-z0-9._-]{0,62}') + '.txt'
    Map settings = Lines.settings(libraryResource(file))
    declare(settings)
    String accept = Lines.accepted(Lines.checked(params.ACCEPT ?: '', '([a-z]+(,[a-z]+)*)?'))
    boolean publish = params.PUBLISH != false

    String run = embed(settings, Integer.parseInt(Lines.checked(params.ROUNDS ?: settings.rounds, '[1-9]')))
    stage('Index') {
        embedmillControl(settings, [RUN: run]) {
            sh 'embedmill index "$MILL_SPEC" --run "$MILL_RUN" --json > index.json'
            archiveArtifacts(artifacts: 'index.json')
        }
    }
    stage('Gates') {
        embedmillGates(settings, run, accept)
    }
    stage('Integration test') {
        embedmillControl(settings, [RUN: run]) {
            sh 'embedmill jenkins report "$MILL_SPEC" --run "$MILL_RUN" --to report'
            junit(testResults: 'report/production.xml')
        }
    }
    if (publish) {
        stage('Publish') {
            embedmillControl(settings, [RUN: run]) {
                sh 'embedmill publish "$MILL_SPEC" --run "$MILL_RUN" --json > published.json'
                archiveArtifacts(artifacts: 'published.json')
            }
        }
        stage('Deploy') {
            embedmillDeploy(settings, run)
        }
    }
    stage('Report') {
        embedmillControl(settings, [RUN: run]) {
            sh 'embedmill jenkins report "$MILL_SPEC" --run "$MILL_RUN" --to report'
            sh 'embedmill status "$MILL_SPEC" --json > status.json'
            archiveArtifacts(artifacts: 'status.json,report/**')
            embedmillPage()
        }
    }
}

/** Parameters and the nightly trigger; Jenkins takes them over with the first build. */
void declare(Map settings) {
    properties([
        disableConcurrentBuilds(),
        parameters([
            string(name: 'ACCEPT', defaultValue: '', description: 'Gates to accept, such as empty,churn.'),
            string(name: 'ROUNDS', defaultValue: settings.rounds, description: 'Rounds of embedding: 1 to 9.'),
            booleanParam(name: 'PUBLISH', defaultValue: true, description: 'Publish what passes all gates.'),
        ]),
        pipelineTriggers(settings.cron ? [cron(settings.cron)] : []),
    ])
}

/** Rounds until every shard has a commit record: who lost its agent, or its GPU, left shards to the next one. */
String embed(Map settings, int rounds) {
    boolean complete = false
    String run = ''
    for (int round = 1; round <= rounds && !complete; round++) {
        String again = round == 1 ? '' : ', round ' + round
        List answered = []
        Map plan = [:]
        stage('Probe' + again) {
            answered = embedmillProbe(settings)
        }
        stage('Plan' + again) {
            plan = embedmillPlan(settings, answered)
        }
        stage('Embed' + again) {
            embedmillEmbed(settings, plan)
        }
        stage('Reconcile' + again) {
            complete = embedmillReconcile(settings, plan.run)
        }
        run = plan.run
    }
    if (!complete) {
        error('shards are left after ' + rounds + ' rounds: the next build goes on with them')
    }
    return run
}
