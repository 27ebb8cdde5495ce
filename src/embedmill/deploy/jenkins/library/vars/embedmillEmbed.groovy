/** Works on the run's shards: a branch for each GPU, which pulls shards until none is left. */
void call(Map settings, Map plan) {
    Map branches = [failFast: false]
    for (List place in plan.places) {
        branches['embed ' + place[0]] = branch(settings, place[0], place[1], place[2])
    }
    if (branches.size() > 1) {
        parallel(branches)
    } else {
        echo('nothing is started: plan.json says why')
    }
}

/**
 * One GPU. The lock is Jenkins' own, for builds; servers' locks, which other engines see, are the holder's. Who
 * has the first one is not waited for: the others work on. `retry` is around `node`, so that it may be another.
 */
Closure branch(Map settings, String worker, String label, String gpu) {
    int hours = Integer.parseInt(settings.embedHours)
    int silent = Integer.parseInt(settings.silentMinutes)
    return {
        embedmillPatiently('embed ' + worker) {
            timeout(time: hours, unit: 'HOURS') {
                retry(count: 3, conditions: [agent(), nonresumable()]) {
                    timeout(time: silent, unit: 'MINUTES', activity: true) {
                        lock(resource: gpu, skipIfLocked: true) {
                            node(label) {
                                work(settings, worker)
                            }
                        }
                    }
                }
            }
        }
    }
}

void work(Map settings, String worker) {
    unstash('places')
    withCredentials(embedmillSecrets(settings)) {
        withEnv(['MILL_WORKER=' + worker]) {
            int code = sh(returnStatus: true, script: 'python3 -I places/attend.py < "places/$MILL_WORKER.json"')
            if (code == 75) {
                echo(worker + ': gave its GPU back')
            } else if (code != 0) {
                echo(worker + ': ended with exit code ' + code)
            }
        }
    }
}
