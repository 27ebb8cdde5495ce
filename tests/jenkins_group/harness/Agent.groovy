import org.jenkinsci.plugins.workflow.support.steps.AgentOfflineException

/**
 * An agent with a workspace of its own. Files in the build's folder change it: NAME.killed kills it with all that
 * runs there, NAME.frozen stops all that without a word, NAME.disconnected loses the connection while it is there.
 * NAME.stopped and NAME.lost are there once that has been noticed. NAME.waited lets the time pass for which a frozen
 * one is waited for, and none of anybody else's. One that does not answer accepts nothing.
 */
class Agent {

    final String name
    final List labels
    final File root
    final Map environment
    final int executors
    final boolean answers
    private final Build build
    private final String cookie
    private final Set used = [] as Set

    Agent(Map config, Build build) {
        name = config.name
        labels = [config.name] + config.labels
        root = new File(config.root as String)
        environment = config.environment
        executors = config.executors as int
        answers = config.answers
        cookie = UUID.randomUUID()
        this.build = build
    }

    boolean isOnline() {
        return answers && !happened('killed') && !happened('disconnected')
    }

    private boolean happened(String what) {
        return new File(build.folder, name + '.' + what).exists()
    }

    private void note(String what) {
        new File(build.folder, name + '.' + what).createNewFile()
    }

    /** A workspace, or null where all executors are taken. */
    synchronized File lease(String job) {
        if (happened('frozen')) {
            return null
        }
        for (int number = 1; number <= executors; number++) {
            File workspace = new File(root, 'workspace/' + job + (number == 1 ? '' : '@' + number))
            if (used.add(workspace)) {
                workspace.mkdirs()
                return workspace
            }
        }
        return null
    }

    synchronized void release(File workspace) {
        used.remove(workspace)
    }

    /** Its exit code; output goes to `eachLine` or, if that is null, is kept. */
    Map run(String script, File directory, Map variables, boolean keep) {
        File file = File.createTempFile('script', '.sh', root)
        file.setText(script, 'UTF-8')
        ProcessBuilder builder = new ProcessBuilder('setsid', 'sh', '-xe', file.path)
        builder.directory(directory)
        Map known = builder.environment()
        known.clear()
        known.putAll(environment)
        known.putAll(variables)
        known.put('HARNESS_COOKIE', cookie)
        builder.redirectErrorStream(!keep)
        Process process = builder.start()
        process.outputStream.close()
        StringBuffer kept = new StringBuffer()
        Place place = build.place
        Thread reader = Thread.start {
            build.at(place) {
                process.inputStream.eachLine('UTF-8') { line -> keep ? kept.append(line + '\n') : build.say(line) }
            }
        }
        Thread errors = keep ? Thread.start {
            build.at(place) { process.errorStream.eachLine('UTF-8') { line -> build.say(line) } }
        } : null
        try {
            build.waitFor {
                if (happened('frozen')) {
                    signal('STOP', pids())
                    note('stopped')
                    if (happened('waited')) {
                        build.passTheSilence()
                    }
                }
                return !process.alive || !online
            }
        } catch (InterruptedException interrupted) {
            signal('TERM', ['-' + process.pid()])
            long deadline = System.currentTimeMillis() + (happened('waited') ? 0 : 60000)
            while (runs('-' + process.pid()) && System.currentTimeMillis() < deadline) {
                Thread.sleep(50)
            }
            signal('KILL', ['-' + process.pid()])
            [reader, errors].each { it?.join(2000) }
            throw interrupted
        }
        if (!online) {
            if (happened('killed')) {
                endAll()
            }
            note('lost')
            throw new AgentOfflineException('agent ' + name + ' was lost')
        }
        [reader, errors].each { it?.join(2000) }
        return [code: process.exitValue(), out: kept.toString()]
    }

    /** Kills what carries this agent's cookie, as the end of a machine does. */
    void endAll() {
        signal('KILL', pids())
    }

    private List pids() {
        List found = []
        new File('/proc').eachDir { folder ->
            if (folder.name.isInteger()) {
                try {
                    if (new File(folder, 'environ').bytes.with { new String(it, 'UTF-8') }.contains(cookie)) {
                        found.add(folder.name)
                    }
                } catch (IOException gone) {
                    return
                }
            }
        }
        return found
    }

    private static boolean runs(String pid) {
        return ['kill', '-s', '0', '--', pid].execute().waitFor() == 0
    }

    private static void signal(String name, List pids) {
        pids.each { pid -> ['kill', '-s', name, '--', pid.toString()].execute().waitFor() }
    }

}
