package embedmill

import com.cloudbees.groovy.cps.NonCPS

/**
 * Lines of words are what Python and Groovy tell each other: no parser of JSON is allowed in the sandbox
 * without an administrator's approval. Every word is checked again here, whoever wrote it.
 */
class Lines implements Serializable {

    private static final long serialVersionUID = 1L
    private static final String WORD = '[A-Za-z0-9][A-Za-z0-9._-]{0,127}'
    private static final Map<String, String> VALUES = [
        spec: '[A-Za-z0-9_][A-Za-z0-9._/-]{0,511}',
        fleet: '[A-Za-z0-9_][A-Za-z0-9._/-]{0,511}',
        control: WORD,
        cron: '[A-Za-z0-9@*/,() -]{0,99}',
        deployJob: '([A-Za-z0-9_][A-Za-z0-9._/-]{0,255})?',
        verifyUrl: '(https?://[A-Za-z0-9][A-Za-z0-9._:/-]{0,255})?',
        verifyKey: '([A-Za-z0-9][A-Za-z0-9._-]{0,127})?',
        rounds: '[1-9]',
        answerMinutes: '[1-9][0-9]{0,3}',
        silentMinutes: '[1-9][0-9]{0,3}',
        embedHours: '[1-9][0-9]{0,2}',
        stageHours: '[1-9][0-9]{0,2}',
        store: '[A-Za-z0-9/][A-Za-z0-9._:/@%+=~-]{0,1023}',
    ]
    private static final String ENDING = 'ended with exit code -?[0-9]{1,3}(: [A-Za-z0-9 .,:;/_()=+-]{0,400})?'

    /** What a file of settings says: `key value` a line; any number of `secret VARIABLE credential` and `store URL`. */
    @NonCPS
    static Map<String, Object> settings(String text) {
        Map<String, Object> found = [secrets: [], stores: []]
        for (String line : text.split('\n')) {
            String key = line.split(' ')[0]
            String value = line.substring(key.length()).trim()
            if (key == 'secret') {
                String[] words = value.split(' ')
                found.secrets.add([checked(words[0], '[A-Za-z_][A-Za-z0-9_]{0,127}'), checked(words[1], WORD)])
            } else if (key == 'store') {
                found.stores.add(checked(value, VALUES.store))
            } else {
                found[key] = checked(value, VALUES[key])
            }
        }
        return found
    }

    /** Rows of so many words each. */
    @NonCPS
    static List<List<String>> rows(String text, int width) {
        List<List<String>> found = []
        for (String line : text.split('\n')) {
            if (line) {
                found.add(row(line, width))
            }
        }
        return found
    }

    /** The URL of a run, if it is one of a pipeline that this library was written for. */
    @NonCPS
    static String run(String url, List<String> stores) {
        checked(url, VALUES.store)
        for (String store : stores) {
            if (url.startsWith(store + '/runs/') && !url.contains('/../')) {
                return url
            }
        }
        throw new IllegalArgumentException('a run of no pipeline that this library knows: ' + url)
    }

    /** A name, if it is one word. */
    @NonCPS
    static String oneWord(String text) {
        return checked(text, WORD)
    }

    /** How a loop ended, as `embedmill jenkins work` wrote it. */
    @NonCPS
    static String howItEnded(String text) {
        return checked(text.trim(), ENDING)
    }

    /** Whether it ended as it should: with its work done, or with its place given back. */
    @NonCPS
    static boolean isCalm(String ended) {
        String[] words = ended.split(' ')
        return words[4] == '0' || words[4] == '75' || words[4] == '0:' || words[4] == '75:'
    }

    /** The text, if it matches all of a pattern. */
    @NonCPS
    static String checked(String text, String pattern) {
        if (pattern == null || text == null || !text.matches(pattern)) {
            throw new IllegalArgumentException('not allowed here: ' + text)
        }
        return text
    }

    /** What the shell of every stage knows: texts reach it by its environment, and never by a command line. */
    @NonCPS
    static List<String> environment(Map<String, Object> settings, Map<String, String> more) {
        List<String> names = []
        for (List<String> secret : settings.secrets) {
            names.add(secret[0])
        }
        List<String> found = ['MILL_SPEC=' + settings.spec, 'MILL_FLEET=' + settings.fleet]
        found.add('MILL_LEND=' + names.join(','))
        found.add('MILL_VERIFY=' + settings.verifyUrl)
        for (Map.Entry<String, String> each : more.entrySet()) {
            found.add('MILL_' + each.key + '=' + each.value)
        }
        return found
    }

    /** Options for gates whose failure is accepted: `empty,churn` → `--accept empty --accept churn`. */
    @NonCPS
    static String accepted(String gates) {
        return gates ? '--accept ' + gates.replace(',', ' --accept ') : ''
    }

    @NonCPS
    private static List<String> row(String line, int width) {
        List<String> words = []
        for (String word : line.split(' ')) {
            words.add(checked(word, WORD))
        }
        if (words.size() != width) {
            throw new IllegalArgumentException('expected ' + width + ' words: ' + line)
        }
        return words
    }

}
