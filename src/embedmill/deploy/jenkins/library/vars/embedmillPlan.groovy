import embedmill.Lines

/** Plans the run, and who works on it: `run`, and `places` of a name, an agent's label and a lock each. */
Map call(Map settings, List answered) {
    return embedmillControl(settings, [:]) {
        dir('facts') {
            deleteDir()
            for (String server in answered) {
                unstash('facts-' + server)
            }
        }
        dir('places') {
            deleteDir()
        }
        sh 'embedmill jenkins plan "$MILL_SPEC" --fleet "$MILL_FLEET" --facts facts --to places ' +
            '--lend "$MILL_LEND" --json > plan.json'
        archiveArtifacts(artifacts: 'plan.json')
        stash(name: 'places', includes: 'places/*')
        List run = Lines.rows(readFile(file: 'places/run.txt', encoding: 'UTF-8'), 1)
        List places = Lines.rows(readFile(file: 'places/places.txt', encoding: 'UTF-8'), 3)
        return [run: run[0][0], places: places]
    }
}
