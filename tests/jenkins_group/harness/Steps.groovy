import hudson.AbortException
import java.nio.file.FileSystems
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.PathMatcher
import java.nio.file.StandardCopyOption
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException
import org.jenkinsci.plugins.workflow.support.steps.AgentOfflineException

/** The steps that pipelines call, for real: on agents that are folders and processes. */
class Steps {

    final Build build

    Steps(Build build) {
        this.build = build
    }

    // Flow

    Object stage(String name, Closure body) {
        build.record([stage: name])
        build.say('stage ' + name)
        return body.call()
    }

    Map parallel(Map branches) {
        assert branches.remove('failFast') == false
        Place outer = build.place
        Map results = Collections.synchronizedMap([:])
        List failures = Collections.synchronizedList([])
        List threads = branches.collect { name, body ->
            Thread.start {
                build.at(outer.with(branch: name)) {
                    try {
                        results[name] = body.call()
                    } catch (Throwable failure) {
                        build.say('failed: ' + failure)
                        failures.add(failure)
                    }
                }
            }
        }
        threads*.join()
        if (failures) {
            throw failures.find { it instanceof FlowInterruptedException } ?: failures[0]
        }
        return results
    }

    Object retry(Map given, Closure body) {
        for (int attempt = 1; ; attempt++) {
            try {
                return body.call()
            } catch (AgentOfflineException lost) {
                if (attempt >= given.count || !('agent' in given.conditions)) {
                    throw lost
                }
                build.say('retrying: ' + lost.message)
            }
        }
    }

    String agent() {
        return 'agent'
    }

    String nonresumable() {
        return 'nonresumable'
    }

    Object timeout(Map given, Closure body) {
        long millis = build.millis(given.time as int, given.unit as String)
        Map limit = [deadline: System.currentTimeMillis() + millis, millis: millis, activity: given.activity ?: false]
        return build.at(build.place.with(limits: build.place.limits + [limit]), body)
    }

    Object lock(Map given, Closure body) {
        build.check()
        if (build.locks.putIfAbsent(given.resource, build.place.branch) != null) {
            assert given.skipIfLocked
            build.say(given.resource + ' is locked: skipped')
            return null
        }
        build.record([lock: given.resource])
        try {
            return body.call()
        } finally {
            build.locks.remove(given.resource)
        }
    }

    void echo(String words) {
        build.say(words)
    }

    void error(String words) {
        throw new AbortException(words)
    }

    // Agents

    Object node(String label, Closure body) {
        Map found = build.waitFor {
            for (Agent agent : build.agents.values()) {
                File workspace = agent.online && label in agent.labels ? agent.lease('job') : null
                if (workspace) {
                    return [agent: agent, workspace: workspace]
                }
            }
            return null
        }
        build.record([node: found.agent.name, branch: build.place.branch])
        try {
            return build.at(build.place.with(agent: found.agent, directory: found.workspace), body)
        } finally {
            found.agent.release(found.workspace)
        }
    }

    Object sh(Map given) {
        Place place = here()
        build.record([sh: given.script])
        Map ended = place.agent.run(given.script, place.directory, place.environment, given.returnStdout ?: false)
        if (given.returnStatus) {
            return ended.code
        }
        if (ended.code != 0) {
            throw new AbortException('script returned exit code ' + ended.code)
        }
        return given.returnStdout ? ended.out : null
    }

    Object sh(String script) {
        return sh([script: script])
    }

    Object dir(String path, Closure body) {
        File directory = new File(here().directory, path)
        directory.mkdirs()
        return build.at(build.place.with(directory: directory), body)
    }

    void deleteDir() {
        here().directory.deleteDir()
    }

    String readFile(Map given) {
        return new File(here().directory, given.file as String).getText(given.encoding as String)
    }

    Object withEnv(List<String> variables, Closure body) {
        Map more = variables.collectEntries { each -> each.split('=', 2) as List }
        return build.at(build.place.with(environment: build.place.environment + more), body)
    }

    Object withCredentials(List bindings, Closure body) {
        Map more = bindings.collectEntries { each ->
            String secret = build.config.credentials[each.credentialsId]
            assert secret != null : 'no credentials ' + each.credentialsId
            build.masks.add(secret)
            if (each.isFile) {
                File written = File.createTempFile('secret', '', new File(build.folder as String))
                written.text = secret
                return [each.variable, written.path]
            }
            return [each.variable, secret]
        }
        return build.at(build.place.with(environment: build.place.environment + more), body)
    }

    void checkout(Object scm) {
        copy(new File(build.config.checkout as String), here().directory, '**')
    }

    // Files

    void stash(Map given) {
        File target = new File(build.folder, 'stashes/' + given.name)
        target.deleteDir()
        if (!copy(here().directory, target, given.includes as String)) {
            throw new AbortException('no files to stash: ' + given.includes)
        }
    }

    void unstash(String name) {
        File source = new File(build.folder, 'stashes/' + name)
        if (!source.isDirectory()) {
            throw new AbortException('no such stash: ' + name)
        }
        copy(source, here().directory, '**')
    }

    void archiveArtifacts(Map given) {
        for (String pattern : given.artifacts.split(',')) {
            if (!copy(here().directory, new File(build.folder, 'archive'), pattern)) {
                throw new AbortException('no artifacts: ' + pattern)
            }
        }
    }

    void junit(Map given) {
        if (given.allowEmptyResults && !new File(here().directory, given.testResults as String).exists()) {
            return
        }
        Object suite = new XmlSlurper().parse(new File(here().directory, given.testResults as String))
        int failures = suite.'**'.count { it.name() in ['failure', 'error'] }
        build.record([junit: given.testResults, tests: suite.'**'.count { it.name() == 'testcase' }, failures: failures])
        if (failures) {
            build.worsen('UNSTABLE')
        }
    }

    void publishHTML(Map arguments) {
        Map given = arguments.target
        File page = new File(here().directory, given.reportDir + '/' + given.reportFiles)
        assert !page.getText('UTF-8').contains('<script') : 'scripts are stripped by the policy of Jenkins'
        build.record([page: given.reportName])
    }

    // Properties, and steps of other jobs

    void properties(List all) {
        build.record([properties: all])
    }

    Map disableConcurrentBuilds() {
        return [kind: 'disableConcurrentBuilds']
    }

    Map parameters(List all) {
        return [kind: 'parameters', all: all]
    }

    Map pipelineTriggers(List all) {
        return [kind: 'pipelineTriggers', all: all]
    }

    Map cron(String line) {
        return [kind: 'cron', line: line]
    }

    Map string(Map given) {
        return given
    }

    Map file(Map given) {
        return given + [isFile: true]
    }

    Map booleanParam(Map given) {
        return given
    }

    void build(Map given) {
        build.record([build: given.job, parameters: given.parameters])
    }

    private Place here() {
        build.check()
        Place place = build.place
        assert place.agent != null : 'this step needs a node'
        if (!place.agent.online) {
            throw new AgentOfflineException('agent ' + place.agent.name + ' was lost')
        }
        return place
    }

    private static int copy(File source, File target, String pattern) {
        PathMatcher matcher = FileSystems.default.getPathMatcher('glob:' + pattern)
        int count = 0
        source.eachFileRecurse { file ->
            Path path = source.toPath().relativize(file.toPath())
            if (file.isFile() && matcher.matches(path)) {
                Path goal = target.toPath().resolve(path.toString())
                Files.createDirectories(goal.parent)
                Files.copy(
                    file.toPath(), goal, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.COPY_ATTRIBUTES
                )
                count++
            }
        }
        return count
    }

}
