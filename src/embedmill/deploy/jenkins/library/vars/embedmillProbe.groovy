import embedmill.Lines

/** Asks every agent of fleet.yaml what its GPUs are doing: the servers that answered, each with a stash. */
List call(Map settings) {
    String text = embedmillControl(settings, [:]) {
        dir('questions') {
            deleteDir()
        }
        sh 'embedmill jenkins ask "$MILL_FLEET" --to questions'
        stash(name: 'questions', includes: 'questions/*')
        return readFile(file: 'questions/servers.txt', encoding: 'UTF-8')
    }
    List servers = Lines.rows(text, 2)
    Map branches = [failFast: false]
    for (List server in servers) {
        branches['probe ' + server[0]] = branch(settings, server[0], server[1])
    }
    Map results = parallel(branches)
    List answered = []
    for (List server in servers) {
        if (results['probe ' + server[0]]) {
            answered.add(server[0])
        }
    }
    return answered
}

Closure branch(Map settings, String server, String label) {
    int minutes = Integer.parseInt(settings.answerMinutes)
    return {
        return embedmillPatiently('probe of ' + server) {
            timeout(time: minutes, unit: 'MINUTES') {
                node(label) {
                    unstash('questions')
                    withEnv(['MILL_SERVER=' + server]) {
                        sh 'python3 -I questions/host.py < "questions/$MILL_SERVER.json" > "$MILL_SERVER.facts"'
                    }
                    stash(name: 'facts-' + server, includes: server + '.facts')
                }
            }
        }
    }
}
